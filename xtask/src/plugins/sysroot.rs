//! A Rust compiler that has the standard library for WebAssembly.
//!
//! rustup's own where `rustup target add wasm32-wasip1` was run; else Debian's `rustc-web`, with
//! the library compiled once from `rust-web-src` and kept in `target/tools/wasm-sysroot`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use fs_err as fs;

use crate::process;
use crate::repository::Repository;

/// The target of the Rust plugins.
pub(super) const TARGET: &str = "wasm32-wasip1";

/// Where Debian puts the compiler: by path, since rustup's comes first on the `PATH`.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-19";
const DEBIAN_WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "lld-19", "wasi-libc"];

/// How to compile Rust to WebAssembly.
pub(super) struct WasmRust {
    /// The compiler, if it is not the one that cargo would take.
    pub(super) rustc: Option<PathBuf>,
    /// The linker, if it is not the compiler's own.
    pub(super) linker: Option<PathBuf>,
    /// Flags that this compiler needs.
    pub(super) flags: Vec<String>,
    /// Compiler and linker with their versions.
    pub(super) version: String,
}

/// Finds or makes a compiler with the standard library.
///
/// # Errors
///
/// If there is none and none can be installed; the text says what to install.
pub(super) fn find(repository: &Repository) -> anyhow::Result<WasmRust> {
    if has_std(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET])) {
        let version = process::output(Command::new("rustc").arg("--version"))?;
        return Ok(WasmRust { rustc: None, linker: None, flags: Vec::new(), version });
    }
    let source = debian_library_source()?;
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    let linker = process::find(DEBIAN_LINKER).context("`wasm-ld-19` is missing")?;
    let compiler = process::output(Command::new(&rustc).arg("--version"))?;
    let linker_version = process::output(Command::new(&linker).arg("--version"))?;
    let sysroot = compiled_library(repository, &rustc, &source, &compiler)?;
    Ok(WasmRust {
        rustc: Some(rustc),
        linker: Some(linker),
        flags: vec!["--sysroot".to_owned(), sysroot.display().to_string()],
        version: format!("{compiler}, {linker_version}"),
    })
}

/// Whether the compiler has the standard library in the folder that the command names.
fn has_std(library_folder: &mut Command) -> bool {
    let Ok(folder) = process::output(library_folder) else { return false };
    has_std_in(Path::new(&folder))
}

fn has_std_in(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libstd-")
    })
}

/// The folder of the standard library's sources, installed if they are missing.
fn debian_library_source() -> anyhow::Result<PathBuf> {
    let find = || -> Option<PathBuf> {
        let sysroot = process::output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]));
        let source = PathBuf::from(sysroot.ok()?).join("lib/rustlib/src/rust");
        let is_complete = source.join("library").is_dir()
            && Path::new(DEBIAN_WASI_LIBC).is_file()
            && process::find(DEBIAN_LINKER).is_some();
        is_complete.then_some(source)
    };
    if let Some(source) = find() {
        return Ok(source);
    }
    let hint = format!(
        "run `rustup target add {TARGET}`, or as root `apt-get install --no-install-recommends {}`",
        DEBIAN_PACKAGES.join(" ")
    );
    if !process::is_root() || process::find("apt-get").is_none() {
        bail!("no Rust standard library for {TARGET}; {hint}");
    }
    process::apt_install(&DEBIAN_PACKAGES)?;
    find().with_context(|| format!("no Rust standard library for {TARGET}; {hint}"))
}

/// The sysroot with the compiled library, made if this compiler has none yet.
fn compiled_library(
    repository: &Repository,
    rustc: &Path,
    source: &Path,
    version: &str,
) -> anyhow::Result<PathBuf> {
    let number = version.split_whitespace().nth(1).unwrap_or("unknown");
    let sysroot = repository.tools("wasm-sysroot").join(number);
    let library = |sysroot: &Path| sysroot.join("lib/rustlib").join(TARGET).join("lib");
    if has_std_in(&library(&sysroot)) {
        return Ok(sysroot);
    }
    fs::create_dir_all(repository.tools("wasm-sysroot"))?;
    let work = tempfile::tempdir_in(repository.tools("wasm-sysroot"))?;
    let compiled = compile_library(work.path(), rustc, source)?;
    let made = work.path().join("sysroot");
    let into = library(&made);
    fs::create_dir_all(into.join("self-contained"))?;
    fs::copy(DEBIAN_WASI_LIBC, into.join("self-contained/libc.a"))?;
    for entry in fs::read_dir(compiled)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_owned();
        let is_seed = name.to_string_lossy().starts_with("libseed");
        if path.extension().is_some_and(|extension| extension == "rlib") && !is_seed {
            fs::copy(&path, into.join(name))?;
        }
    }
    // Whoever comes first wins; another run's copy is as good.
    if fs::rename(&made, &sysroot).is_err() && !has_std_in(&library(&sysroot)) {
        bail!("cannot move the compiled library to `{}`", sysroot.display());
    }
    Ok(sysroot)
}

/// Compiles an empty crate with its standard library and returns the folder of the results.
fn compile_library(work: &Path, rustc: &Path, source: &Path) -> anyhow::Result<PathBuf> {
    let seed = work.join("seed");
    fs::create_dir_all(seed.join("src"))?;
    fs::write(seed.join("src/lib.rs"), "")?;
    let manifest = "[package]\nname = \"seed\"\nedition = \"2024\"\n\n[workspace]\n";
    fs::write(seed.join("Cargo.toml"), manifest)?;
    let flags = ["-Cembed-bitcode=yes".to_owned(), remap(source, "/rust")];
    process::run(
        Command::new("cargo")
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .args(["-Z", "build-std=std,panic_abort", "--target-dir"])
            .arg(seed.join("target"))
            .current_dir(&seed)
            .env("RUSTC", rustc)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env_remove("RUSTFLAGS"),
    )?;
    Ok(seed.join("target").join(TARGET).join("release/deps"))
}

/// The flag that writes `to` wherever the compiler would write the path `from`.
pub(super) fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}
