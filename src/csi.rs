//! kubelet's side: CSI Identity and Node, and plugin registration.
