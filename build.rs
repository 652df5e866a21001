//! Compiles `proto/` (protox: no protoc needed) and stamps the build with its commit.

use std::process::Command;

const PROTOS: [&str; 2] = ["proto/csi.proto", "proto/pluginregistration.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for proto in PROTOS {
        println!("cargo:rerun-if-changed={proto}");
    }
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        // A publish request carries tokens: nothing generated can be printed.
        .skip_debug(["."])
        .compile_fds(descriptors)?;

    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = commit.ok().filter(|output| output.status.success());
    let commit = commit.and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo:rustc-env=KEYHOLE_COMMIT={}", commit.as_deref().unwrap_or("unknown").trim());
    println!("cargo:rerun-if-changed=.git/HEAD");
    Ok(())
}
