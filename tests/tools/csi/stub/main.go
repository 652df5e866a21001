// Stub stands between csi-sanity and the real driver: Node calls go through to it unchanged; Identity and
// Controller are answered here, because csi-sanity makes its volumes with CreateVolume and fails every Node spec of
// a plugin that has no controller. Keyhole itself is node-only. Volumes here are names and nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"sync"

	csi "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	driver := flag.String("driver", "", "socket of the driver under test")
	listen := flag.String("listen", "", "socket for csi-sanity")
	flag.Parse()
	connection, err := grpc.NewClient("unix://"+*driver, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening") // whoever started us may connect
	server := grpc.NewServer()
	csi.RegisterIdentityServer(server, identity{driver: csi.NewIdentityClient(connection)})
	csi.RegisterControllerServer(server, &controller{})
	csi.RegisterNodeServer(server, node{driver: csi.NewNodeClient(connection)})
	log.Fatal(server.Serve(listener))
}

// identity adds the one capability that csi-sanity needs to run all of its Node specs; the rest is the driver's word.
type identity struct {
	csi.UnimplementedIdentityServer
	driver csi.IdentityClient
}

func (i identity) GetPluginInfo(ctx context.Context, r *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return i.driver.GetPluginInfo(ctx, r)
}

func (i identity) GetPluginCapabilities(ctx context.Context, r *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	answer, err := i.driver.GetPluginCapabilities(ctx, r)
	if err != nil {
		return nil, err
	}
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	answer.Capabilities = append(answer.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: service}})
	return answer, nil
}

func (i identity) Probe(ctx context.Context, r *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	answer, err := i.driver.Probe(ctx, r)
	if err == nil && answer.Ready == nil {
		answer.Ready = wrapperspb.Bool(true)
	}
	return answer, err
}

// node passes on.
type node struct {
	csi.UnimplementedNodeServer
	driver csi.NodeClient
}

func (n node) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	r.Readonly = true // Keyhole requires it, and csi-sanity has no flag for it
	return n.driver.NodePublishVolume(ctx, r)
}

func (n node) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	return n.driver.NodeUnpublishVolume(ctx, r)
}

func (n node) NodeGetCapabilities(ctx context.Context, r *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return n.driver.NodeGetCapabilities(ctx, r)
}

func (n node) NodeGetInfo(ctx context.Context, r *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return n.driver.NodeGetInfo(ctx, r)
}

type controller struct {
	csi.UnimplementedControllerServer
	volumes sync.Map // id -> capacity in bytes
}

func (*controller) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	rpc := &csi.ControllerServiceCapability_RPC{Type: csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME}
	capability := &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: rpc}}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: []*csi.ControllerServiceCapability{capability}}, nil
}

func (c *controller) CreateVolume(_ context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	if r.Name == "" || len(r.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no name or no volume capabilities")
	}
	wanted := r.GetCapacityRange().GetRequiredBytes()
	if had, again := c.volumes.LoadOrStore(r.Name, wanted); again && had != wanted {
		return nil, status.Error(codes.AlreadyExists, "another capacity")
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{VolumeId: r.Name, CapacityBytes: wanted, VolumeContext: r.Parameters}}, nil
}

func (c *controller) DeleteVolume(_ context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if r.VolumeId == "" {
		return nil, status.Error(codes.InvalidArgument, "no volume id")
	}
	c.volumes.Delete(r.VolumeId)
	return &csi.DeleteVolumeResponse{}, nil
}

func (c *controller) ValidateVolumeCapabilities(_ context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if r.VolumeId == "" || len(r.VolumeCapabilities) == 0 {
		return nil, status.Error(codes.InvalidArgument, "no volume id or no volume capabilities")
	}
	if _, known := c.volumes.Load(r.VolumeId); !known {
		return nil, status.Error(codes.NotFound, "no such volume")
	}
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: r.VolumeCapabilities}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}
