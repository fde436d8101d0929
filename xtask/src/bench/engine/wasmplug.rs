//! The command of the product.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use fs_err as fs;

use crate::bench::engine::{Certificate, Engine, Ports};
use crate::bench::workload::{Case, Workload};
use crate::process;

/// The flags that name certificate and key.
const TLS_FLAGS: [&str; 2] = ["--tls-cert", "--tls-key"];

/// Writes the resources and returns the command that runs them.
///
/// # Errors
///
/// If the build cannot do what the case asks for, or a file cannot be written.
pub(in crate::bench) fn command(
    program: &Path,
    work: &Path,
    module: &Path,
    case: Case,
    ports: &Ports,
) -> anyhow::Result<Command> {
    let folder = work.join("wasmplug");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    if case.plugins > 0 {
        fs::write(
            folder.join("plugins.yaml"),
            resources(case.plugins, case.engine == Engine::OneVm, module),
        )?;
    }
    let mut command = Command::new(program);
    command.arg("run").arg("-f").arg(folder);
    for (option, port) in
        [("--listen", ports.listen), ("--admin", ports.admin), ("--upstream", ports.upstream)]
    {
        command.args([option, &format!("127.0.0.1:{port}")]);
    }
    command.args(["--workers", &case.workers.to_string()]);
    if case.workload == Workload::Tls {
        let help = process::output(Command::new(program).args(["run", "--help"]))?;
        ensure_tls(&help, program)?;
        let Certificate { chain, key } = Certificate::in_folder(work);
        let [certificate_flag, key_flag] = TLS_FLAGS;
        command.arg(certificate_flag).arg(chain).arg(key_flag).arg(key);
    }
    Ok(command)
}

fn ensure_tls(help: &str, program: &Path) -> anyhow::Result<()> {
    for flag in TLS_FLAGS {
        ensure!(
            help.split_whitespace().any(|word| word == flag),
            "`{}` has no `{flag}`, so it cannot be measured with TLS; leave `tls` out of \
             `--workload`, or name a newer build",
            program.display()
        );
    }
    Ok(())
}

/// One resource for each plugin, in the order of their tags.
fn resources(plugins: usize, has_one_vm: bool, module: &Path) -> String {
    let scope = if has_one_vm { "process" } else { "worker" };
    let mut text = String::new();
    for index in 0..plugins {
        let priority = plugins - index;
        write!(
            text,
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  \
             name: tag-{index}\n  annotations: {{wasmplug.dev/vm-scope: {scope}}}\nspec:\n  \
             url: file://{}\n  phase: AUTHN\n  priority: {priority}\n  \
             pluginConfig:\n    tag: p{index}\n",
            module.display()
        )
        .expect("writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_resources_are_in_the_same_order() {
        let text = resources(2, true, Path::new("/m.wasm"));
        let found: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("priority") || line.starts_with("tag:"))
            .collect();
        assert_eq!(found, ["priority: 2", "tag: p0", "priority: 1", "tag: p1"]);
        assert_eq!(resources(0, false, Path::new("/m.wasm")), "");
    }

    #[test]
    fn a_build_without_tls_is_named() {
        let help = "Options:\n      --tls-cert <FILE>\n      --tls-key <FILE>\n";
        assert!(ensure_tls(help, Path::new("new")).is_ok());
        let error = ensure_tls("      --tls-cert-file <FILE>\n", Path::new("old"));
        let error = error.expect_err("it has other flags").to_string();
        assert!(error.contains("`old`") && error.contains("`--tls-cert`"), "{error}");
    }
}
