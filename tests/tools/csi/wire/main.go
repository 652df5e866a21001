// Wire holds our protos against the published ones: every message, field, enum value and call that we serve must have
// the same name, number, type and cardinality there. It reads a FileDescriptorSet, prints each difference, exits 1.
package main

import (
	"fmt"
	"os"

	csi "github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

var (
	checked     int
	differences int
)

func differ(format string, a ...any) {
	differences++
	fmt.Printf(format+"\n", a...)
}

func main() {
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil {
		panic(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		panic(err)
	}
	published := map[protoreflect.FullName]protoreflect.FileDescriptor{
		"csi.v1":             csi.File_csi_proto,
		"pluginregistration": registration.File_staging_src_k8s_io_kubelet_pkg_apis_pluginregistration_v1_api_proto,
	}
	seen := map[protoreflect.FullName]bool{}
	files.RangeFiles(func(ours protoreflect.FileDescriptor) bool {
		theirs, ok := published[ours.Package()]
		if !ok {
			return true // Google's own well-known types
		}
		seen[ours.Package()] = true
		messages(ours.Messages(), theirs.Messages())
		enums(ours.Enums(), theirs.Enums())
		services(ours.Services(), theirs.Services())
		return true
	})
	for name := range published {
		if !seen[name] {
			differ("package %s is not in the descriptor set", name)
		}
	}
	fmt.Printf("%d names checked, %d differences\n", checked, differences)
	if differences > 0 || checked == 0 {
		os.Exit(1)
	}
}

func messages(ours, theirs protoreflect.MessageDescriptors) {
	for i := range ours.Len() {
		mine := ours.Get(i)
		checked++
		published := theirs.ByName(mine.Name())
		if published == nil {
			differ("message %s is not published", mine.FullName())
			continue
		}
		for j := range mine.Fields().Len() {
			field(mine.Fields().Get(j), published.Fields())
		}
		messages(mine.Messages(), published.Messages())
		enums(mine.Enums(), published.Enums())
	}
}

func field(mine protoreflect.FieldDescriptor, theirs protoreflect.FieldDescriptors) {
	checked++
	published := theirs.ByName(mine.Name())
	if published == nil {
		differ("field %s is not published", mine.FullName())
		return
	}
	shape := func(f protoreflect.FieldDescriptor) string {
		kind := f.Kind().String()
		if f.Message() != nil {
			kind = string(f.Message().FullName())
		}
		if f.Enum() != nil {
			kind = string(f.Enum().FullName())
		}
		in := ""
		if f.ContainingOneof() != nil {
			in = string(f.ContainingOneof().Name())
		}
		return fmt.Sprintf("%s %s = %d map=%t oneof=%q", f.Cardinality(), kind, f.Number(), f.IsMap(), in)
	}
	if shape(mine) != shape(published) {
		differ("%s: ours %s, published %s", mine.FullName(), shape(mine), shape(published))
	}
}

func enums(ours, theirs protoreflect.EnumDescriptors) {
	for i := range ours.Len() {
		mine := ours.Get(i)
		checked++
		published := theirs.ByName(mine.Name())
		if published == nil {
			differ("enum %s is not published", mine.FullName())
			continue
		}
		for j := range mine.Values().Len() {
			value := mine.Values().Get(j)
			checked++
			if had := published.Values().ByName(value.Name()); had == nil || had.Number() != value.Number() {
				differ("enum value %s = %d is not published so", value.FullName(), value.Number())
			}
		}
	}
}

func services(ours, theirs protoreflect.ServiceDescriptors) {
	for i := range ours.Len() {
		mine := ours.Get(i)
		checked++
		published := theirs.ByName(mine.Name())
		if published == nil {
			differ("service %s is not published", mine.FullName())
			continue
		}
		for j := range mine.Methods().Len() {
			call := mine.Methods().Get(j)
			checked++
			had := published.Methods().ByName(call.Name())
			if had == nil || had.Input().FullName() != call.Input().FullName() || had.Output().FullName() != call.Output().FullName() ||
				had.IsStreamingClient() != call.IsStreamingClient() || had.IsStreamingServer() != call.IsStreamingServer() {
				differ("call %s is not published so", call.FullName())
			}
		}
	}
}
