//! The configuration of a containerd, as its version reads it.
//!
//! containerd 1.x reads version 2 with one section for all of its CRI part. containerd 2.x splits that section into
//! images, runtime and server (version 3); it reads version 2 as well, but then loses the snapshotter.
//! It also offers NRI, on one socket for the whole machine, which several containerds of tests cannot share.

use crate::image;
use crate::version::Version;

/// What a containerd is told.
pub(crate) struct Settings<'a> {
    /// What it keeps.
    pub(crate) root: &'a str,
    /// What ends with a boot.
    pub(crate) state: &'a str,
    /// Where it listens.
    pub(crate) socket: &'a str,
    /// The directory of CNI plugins. It is always named: Debian's packages differ in their default.
    pub(crate) bin_dir: &'a str,
    /// The directory of CNI configurations.
    pub(crate) conf_dir: &'a str,
    /// Further lines of its runtime.
    pub(crate) runtime: &'a str,
    /// Further lines of its server.
    pub(crate) server: &'a str,
}

/// The text of the file. The native snapshotter copies instead of mounting overlays: with images this small that costs
/// nothing, and it works inside containers too. Machines without CAP_SYS_RESOURCE cannot lower the score of the pause
/// process.
pub(crate) fn text(version: Version, settings: &Settings<'_>) -> String {
    let Settings { root, state, socket, .. } = settings;
    let (format, cri) = if version < Version::new(2, 0) {
        (2, one_section(settings))
    } else {
        (3, sections(version, settings))
    };
    format!(
        r#"version = {format}
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{socket}"

{cri}"#
    )
}

fn one_section(settings: &Settings<'_>) -> String {
    let Settings { bin_dir, conf_dir, runtime, server, .. } = settings;
    format!(
        r#"[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
{runtime}
{server}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin_dir}"
conf_dir = "{conf_dir}"
"#,
        image = image::REFERENCE
    )
}

fn sections(version: Version, settings: &Settings<'_>) -> String {
    let Settings { bin_dir, conf_dir, runtime, server, .. } = settings;
    // The list came with 2.1.
    let plugins = if version < Version::new(2, 1) {
        format!("bin_dir = \"{bin_dir}\"")
    } else {
        format!("bin_dirs = [\"{bin_dir}\"]")
    };
    format!(
        r#"[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
{runtime}

[plugins."io.containerd.cri.v1.runtime".cni]
{plugins}
conf_dir = "{conf_dir}"

[plugins."io.containerd.grpc.v1.cri"]
{server}

[plugins."io.containerd.nri.v1.nri"]
disable = true
"#,
        image = image::REFERENCE
    )
}

/// The arguments of `ctr images import`. Since 2.0 it leaves the work to containerd, which then has to be configured
/// for the snapshotter once more.
pub(crate) fn import(version: Version) -> &'static [&'static str] {
    if version < Version::new(2, 0) {
        &["images", "import", "--snapshotter", "native"]
    } else {
        &["images", "import", "--local", "--snapshotter", "native"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: &str) -> String {
        let settings = Settings {
            root: "/d/root",
            state: "/d/state",
            socket: "/d/containerd.sock",
            bin_dir: "/opt/cni/bin",
            conf_dir: "/etc/cni/net.d",
            runtime: "netns_mounts_under_state_dir = true",
            server: "disable_tcp_service = true",
        };
        text(Version::find(version).unwrap(), &settings)
    }

    fn head(format: u32) -> String {
        format!(
            r#"version = {format}
root = "/d/root"
state = "/d/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "/d/containerd.sock"

"#
        )
    }

    #[test]
    fn containerd_1_reads_one_section() {
        let cri = r#"[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/braid-e2e:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#;
        for version in ["1.6.20", "1.7.24"] {
            assert_eq!(of(version), head(2) + cri, "{version}");
        }
    }

    #[test]
    fn containerd_2_reads_images_runtime_and_server_apart() {
        let cri = |plugins: &str| {
            format!(
                r#"[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/braid-e2e:1"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
{plugins}
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri"]
disable_tcp_service = true

[plugins."io.containerd.nri.v1.nri"]
disable = true
"#
            )
        };
        for (version, plugins) in [
            ("2.0.4", r#"bin_dir = "/opt/cni/bin""#),
            ("2.1.9", r#"bin_dirs = ["/opt/cni/bin"]"#),
            ("2.2.0", r#"bin_dirs = ["/opt/cni/bin"]"#),
        ] {
            assert_eq!(of(version), head(3) + &cri(plugins), "{version}");
        }
    }

    #[test]
    fn images_are_imported_by_ctr_itself() {
        let words = |version: &str| import(Version::find(version).unwrap()).join(" ");
        assert_eq!(words("1.6.20"), "images import --snapshotter native");
        assert_eq!(words("1.7.24"), "images import --snapshotter native");
        assert_eq!(words("2.1.9"), "images import --local --snapshotter native");
    }
}
