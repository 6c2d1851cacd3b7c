//! Turns the protocol files into Rust with protox: no protoc, no network.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files =
        protox::compile(["nightlatch/admin/v1/admin.proto", "nightlatch/broker/v1/broker.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
