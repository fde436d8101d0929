//! Plugins in C++, compiled by Debian's clang.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use fs_err as fs;

use crate::process;

const COMPILER: &str = "clang++-19";
const LINKER: &str = "wasm-ld-19";
const TARGET: &str = "wasm32-wasi";

/// Compiler, linker, C library, and the three parts of the C++ library and its runtime.
const DEBIAN_PACKAGES: [&str; 6] = [
    "clang-19",
    "libclang-rt-19-dev-wasm32",
    "lld-19",
    "wasi-libc",
    "libc++-19-dev-wasm32",
    "libc++abi-19-dev-wasm32",
];

/// As each plugin's README gives them.
const FLAGS: [&str; 9] = [
    "-mexec-model=reactor",
    "-std=c++20",
    "-Os",
    "-flto",
    "-fno-exceptions",
    "-fno-rtti",
    "-Wall",
    "-Werror",
    "-Wl,--strip-all",
];

/// The compiler with its version, installed if it is missing.
///
/// # Errors
///
/// If it is missing and cannot be installed; the text says what to install.
pub(super) fn version() -> anyhow::Result<String> {
    if !can_compile() {
        let hint = format!(
            "as root: `apt-get install --no-install-recommends {}`",
            DEBIAN_PACKAGES.join(" ")
        );
        if !process::is_root() || process::find("apt-get").is_none() {
            bail!("plugins in C++ need clang 19 with libraries for WebAssembly; {hint}");
        }
        process::apt_install(&DEBIAN_PACKAGES)?;
        if !can_compile() {
            bail!("clang 19 does not compile C++ to WebAssembly; {hint}");
        }
    }
    let version = process::output(Command::new(COMPILER).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// Whether compiler, linker and the libraries are there: each alone may be.
fn can_compile() -> bool {
    let library = |name: &str| {
        let file = format!("-print-file-name={name}");
        let target = format!("--target={TARGET}");
        let found = process::output(Command::new(COMPILER).args([target, file]));
        // The bare name comes back where there is no such file.
        found.is_ok_and(|path| Path::new(&path).is_absolute())
    };
    process::find(LINKER).is_some()
        && ["libc.a", "libc++.a", "libc++abi.a"].into_iter().all(library)
}

/// Compiles a plugin.
///
/// # Errors
///
/// If the compiler refuses it.
pub(super) fn build(folder: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    version()?;
    let module = work.join("plugin.wasm");
    let mut sources: Vec<PathBuf> = fs::read_dir(folder.join("src"))?
        .map(|entry| Ok(Path::new("src").join(entry?.file_name())))
        .collect::<anyhow::Result<_>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cc"));
    // The order of the sources is the order in the module.
    sources.sort();
    process::run(
        Command::new(COMPILER)
            .arg(format!("--target={TARGET}"))
            .args(FLAGS)
            .args(sources)
            .arg("-o")
            .arg(&module)
            .current_dir(folder),
    )
    .context("the plugin does not compile")?;
    Ok(module)
}
