//! WASI preview 1 as Envoy offers it: a log, clocks, randomness, an environment, no files.
//!
//! Source: WASI snapshot preview 1; what each function answers is Envoy's behaviour.

use wasmtime::{Caller, ExternType, FuncType, Linker, Module, Val};

use super::Cx;
use super::log::write_line;
use crate::abi::{LogLevel, Status};
use crate::error::FailureKind;
use crate::memory;
use crate::vm_state::{Running, VmState};

/// Both names under which toolchains import it.
const MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];
/// Most bytes of randomness in one call. Source: Envoy.
const MAX_RANDOM_BYTES: u32 = 65_536;
/// Most bytes that one write to standard output or error may log.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// Most vectors of one write.
const MAX_VECTORS: u32 = 1024;

const SUCCESS: u32 = 0;
const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;
const NOTDIR: u32 = 20;
const NOENT: u32 = 44;
const NOTSUP: u32 = 58;
const NOTCAPABLE: u32 = 76;

/// A function that only answers a number.
struct Answer {
    name: &'static str,
    /// If its first parameter is standard output or error.
    standard: u32,
    otherwise: u32,
    /// Parameters that point to a number, which becomes 0.
    zeroed: &'static [usize],
}

/// What is missing here and is not defined above answers [`NOSYS`].
const ANSWERS: &[Answer] = &[
    Answer::always("fd_seek", SUCCESS),
    Answer::always("fd_close", SUCCESS),
    Answer::always("fd_advise", SUCCESS),
    Answer::always("sched_yield", SUCCESS),
    Answer::always("fd_filestat_get", BADF),
    Answer::always("fd_prestat_get", BADF),
    Answer::always("fd_readdir", NOTDIR).zeroing(&[4]),
    Answer::for_files("fd_renumber", NOTSUP),
    Answer::for_files("fd_fdstat_set_rights", SUCCESS),
    Answer::for_files("fd_allocate", SUCCESS),
    Answer::for_files("fd_datasync", SUCCESS),
    Answer::for_files("fd_sync", SUCCESS),
    Answer::for_files("fd_filestat_set_size", SUCCESS),
    Answer::for_files("fd_filestat_set_times", SUCCESS),
    Answer::always("path_open", NOENT),
    Answer::always("path_filestat_get", NOTSUP),
    Answer::always("path_filestat_set_times", NOTSUP),
    Answer::always("path_create_directory", NOTSUP),
    Answer::always("path_link", NOTSUP),
    Answer::always("path_readlink", NOTSUP).zeroing(&[5]),
    Answer::always("path_remove_directory", NOTSUP),
    Answer::always("path_rename", NOTSUP),
    Answer::always("path_symlink", NOTSUP),
    Answer::always("path_unlink_file", NOTSUP),
    Answer::always("sock_accept", NOTSUP).zeroing(&[2]),
    Answer::always("sock_recv", NOTSUP).zeroing(&[4]),
    Answer::always("sock_send", NOTSUP).zeroing(&[4]),
    Answer::always("sock_shutdown", NOTSUP),
];

/// Wraps functions of `i32` parameters whose result is an error number.
macro_rules! wasi {
    ($linker:ident, $module:ident, $allowed:expr; $($name:literal => $function:path { $($arg:ident),* };)*) => {
        $($linker.func_wrap(
            $module,
            $name,
            |caller: Caller<'_, VmState> $(, $arg: u32)*| -> wasmtime::Result<u32> {
                let mut cx = Cx::enter(caller, $name, $allowed)?;
                if cx.is_denied($name) {
                    return Ok(NOTCAPABLE);
                }
                Ok($function(&mut cx $(, $arg)*).unwrap_or_else(|errno| errno))
            },
        )?;)*
    };
}

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    for module in MODULES {
        wasi! { linker, module, Running::Allocator;
            "fd_write" => fd_write { fd, vectors, count, written_out };
            "poll_oneoff" => poll_oneoff { subscriptions, events, count, events_out };
        }
        wasi! { linker, module, Running::Start;
            "environ_sizes_get" => environ_sizes_get { count_out, size_out };
            "environ_get" => environ_get { pointers, text };
            "args_sizes_get" => args_sizes_get { count_out, size_out };
            "args_get" => args_get { pointers, text };
            "clock_res_get" => clock_res_get { id, resolution_out };
            "random_get" => random_get { ptr, len };
            "fd_fdstat_get" => fd_fdstat_get { fd, stat_out };
        }
        linker.func_wrap(
            module,
            "clock_time_get",
            |caller: Caller<'_, VmState>, id: u32, _precision: u64, out: u32| {
                let mut cx = Cx::enter(caller, "clock_time_get", Running::Allocator)?;
                if cx.is_denied("clock_time_get") {
                    return Ok(NOTCAPABLE);
                }
                Ok(clock_time_get(&mut cx, id, out).unwrap_or_else(|errno| errno))
            },
        )?;
        linker.func_wrap(
            module,
            "fd_pwrite",
            |caller: Caller<'_, VmState>, fd: u32, vectors: u32, count: u32, _at: u64, out: u32| {
                let mut cx = Cx::enter(caller, "fd_pwrite", Running::Start)?;
                if cx.is_denied("fd_pwrite") {
                    return Ok(NOTCAPABLE);
                }
                Ok(fd_write(&mut cx, fd, vectors, count, out).unwrap_or_else(|errno| errno))
            },
        )?;
        linker.func_wrap(module, "fd_tell", |caller: Caller<'_, VmState>, fd: u32, out: u32| {
            let mut cx = Cx::enter(caller, "fd_tell", Running::Start)?;
            if cx.is_denied("fd_tell") {
                return Ok(NOTCAPABLE);
            }
            Ok(fd_tell(&mut cx, fd, out).unwrap_or_else(|errno| errno))
        })?;
        linker.func_wrap(
            module,
            "proc_exit",
            |mut caller: Caller<'_, VmState>, code: u32| -> wasmtime::Result<()> {
                caller.data_mut().death = Some(FailureKind::Exit);
                Err(wasmtime::Error::msg(format!("the guest exited with code {code}")))
            },
        )?;
    }
    Ok(())
}

/// Defines what is left of a module's WASI imports, in the shape in which it declares them.
///
/// Two of Envoy's functions have a parameter too few; taking the declared type serves both.
pub(super) fn define_remaining(
    linker: &mut Linker<VmState>,
    module: &Module,
) -> wasmtime::Result<()> {
    for import in module.imports() {
        let is_wasi = MODULES.contains(&import.module());
        let (true, ExternType::Func(declared)) = (is_wasi, import.ty()) else { continue };
        if is_defined(import.name()) || !returns_errno(&declared) {
            continue;
        }
        let answer = ANSWERS.iter().find(|answer| answer.name == import.name());
        let name = import.name().to_owned();
        linker.allow_shadowing(true);
        linker.func_new(
            import.module(),
            import.name(),
            declared,
            move |caller, params, results| {
                let mut cx = Cx { caller };
                let errno = match answer {
                    _ if cx.is_denied(&name) => NOTCAPABLE,
                    Some(answer) => answer.give(&mut cx, params),
                    None => NOSYS,
                };
                if let Some(result) = results.first_mut() {
                    *result = Val::I32(errno.cast_signed());
                }
                Ok(())
            },
        )?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

// === impl Answer ===

impl Answer {
    const fn always(name: &'static str, errno: u32) -> Self {
        Self { name, standard: errno, otherwise: errno, zeroed: &[] }
    }

    /// Answers this for standard output and error; no other file is open.
    const fn for_files(name: &'static str, errno: u32) -> Self {
        Self { name, standard: errno, otherwise: BADF, zeroed: &[] }
    }

    const fn zeroing(self, params: &'static [usize]) -> Self {
        Self { zeroed: params, ..self }
    }

    fn give(&self, cx: &mut Cx<'_>, params: &[Val]) -> u32 {
        let param = |at: usize| params.get(at).and_then(Val::i32).map(i32::cast_unsigned);
        for out in self.zeroed.iter().filter_map(|at| param(*at)) {
            if cx.write_u32(out, 0).is_err() {
                return FAULT;
            }
        }
        if matches!(param(0), Some(1 | 2)) { self.standard } else { self.otherwise }
    }
}

fn is_defined(name: &str) -> bool {
    matches!(
        name,
        "fd_write"
            | "poll_oneoff"
            | "environ_sizes_get"
            | "environ_get"
            | "args_sizes_get"
            | "args_get"
            | "clock_res_get"
            | "random_get"
            | "fd_fdstat_get"
            | "clock_time_get"
            | "fd_pwrite"
            | "fd_tell"
            | "proc_exit"
    )
}

fn returns_errno(ty: &FuncType) -> bool {
    ty.results().len() == 1 && ty.results().all(|result| result.is_i32())
}

fn fault(_: Status) -> u32 {
    FAULT
}

fn fd_write(
    cx: &mut Cx<'_>,
    fd: u32,
    vectors: u32,
    count: u32,
    written_out: u32,
) -> Result<u32, u32> {
    let level = match fd {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Err(BADF),
    };
    if count > MAX_VECTORS {
        return Err(INVAL);
    }
    let (memory, state) = cx.parts().map_err(fault)?;
    let mut text = Vec::new();
    for index in 0..count {
        let vector = index.checked_mul(8).and_then(|at| vectors.checked_add(at)).ok_or(FAULT)?;
        let ptr = memory::read_u32(memory, vector).map_err(fault)?;
        let len = memory::read_u32(memory, vector.checked_add(4).ok_or(FAULT)?).map_err(fault)?;
        text.extend_from_slice(memory::read(memory, ptr, len).map_err(fault)?);
        if text.len() > MAX_WRITE_BYTES {
            return Err(INVAL);
        }
    }
    let written = u32::try_from(text.len()).map_err(|_| INVAL)?;
    memory::write_u32(memory, written_out, written).map_err(fault)?;
    if !text.is_empty() {
        write_line(state, level, text.strip_suffix(b"\n").unwrap_or(&text));
    }
    Ok(SUCCESS)
}

/// Nothing is ever ready, and nobody sleeps on a worker. Go's scheduler is content with that.
fn poll_oneoff(
    cx: &mut Cx<'_>,
    _subs: u32,
    _events: u32,
    _count: u32,
    out: u32,
) -> Result<u32, u32> {
    cx.write_u32(out, 0).map_err(fault)?;
    Ok(SUCCESS)
}

fn environ_sizes_get(cx: &mut Cx<'_>, count_out: u32, size_out: u32) -> Result<u32, u32> {
    let environment = &cx.state().config.environment;
    let size: usize = environment
        .iter()
        .map(|(name, value)| name.len().saturating_add(value.len()).saturating_add(2))
        .fold(0, usize::saturating_add);
    let count = u32::try_from(environment.len()).map_err(|_| INVAL)?;
    let size = u32::try_from(size).map_err(|_| INVAL)?;
    cx.write_u32(count_out, count).map_err(fault)?;
    cx.write_u32(size_out, size).map_err(fault)?;
    Ok(SUCCESS)
}

fn environ_get(cx: &mut Cx<'_>, mut pointers: u32, mut text: u32) -> Result<u32, u32> {
    let (memory, state) = cx.parts().map_err(fault)?;
    for (name, value) in &state.config.environment {
        let variable = format!("{name}={value}\0");
        memory::write_u32(memory, pointers, text).map_err(fault)?;
        memory::write(memory, text, variable.as_bytes()).map_err(fault)?;
        let len = u32::try_from(variable.len()).map_err(|_| INVAL)?;
        pointers = pointers.checked_add(4).ok_or(FAULT)?;
        text = text.checked_add(len).ok_or(FAULT)?;
    }
    Ok(SUCCESS)
}

fn args_sizes_get(cx: &mut Cx<'_>, count_out: u32, size_out: u32) -> Result<u32, u32> {
    cx.write_u32(count_out, 0).map_err(fault)?;
    cx.write_u32(size_out, 0).map_err(fault)?;
    Ok(SUCCESS)
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of every function here")]
fn args_get(_cx: &mut Cx<'_>, _pointers: u32, _text: u32) -> Result<u32, u32> {
    Ok(SUCCESS)
}

fn clock_time_get(cx: &mut Cx<'_>, id: u32, time_out: u32) -> Result<u32, u32> {
    let clock = cx.state().host.clock();
    let now = match id {
        0 => clock.realtime_nanoseconds(),
        1 => clock.monotonic_nanoseconds(),
        _ => return Err(NOTSUP),
    };
    cx.write_u64(time_out, now).map_err(fault)?;
    Ok(SUCCESS)
}

fn clock_res_get(cx: &mut Cx<'_>, id: u32, resolution_out: u32) -> Result<u32, u32> {
    if id > 1 {
        return Err(NOTSUP);
    }
    cx.write_u64(resolution_out, 1).map_err(fault)?;
    Ok(SUCCESS)
}

fn random_get(cx: &mut Cx<'_>, ptr: u32, len: u32) -> Result<u32, u32> {
    if len > MAX_RANDOM_BYTES {
        return Err(INVAL);
    }
    let len = usize::try_from(len).map_err(|_| INVAL)?;
    let (memory, _) = cx.parts().map_err(fault)?;
    let out = memory::slice_mut(memory, ptr, len).map_err(fault)?;
    getrandom::fill(out).map_err(|_| NOSYS)?;
    Ok(SUCCESS)
}

/// 24 bytes, all zero but the right to write.
fn fd_fdstat_get(cx: &mut Cx<'_>, fd: u32, stat_out: u32) -> Result<u32, u32> {
    const RIGHTS_AT: usize = 8;
    const RIGHT_TO_WRITE: u8 = 64;
    if fd != 1 && fd != 2 {
        return Err(BADF);
    }
    let mut stat = [0; 24];
    if let Some(rights) = stat.get_mut(RIGHTS_AT) {
        *rights = RIGHT_TO_WRITE;
    }
    let (memory, _) = cx.parts().map_err(fault)?;
    memory::write(memory, stat_out, &stat).map_err(fault)?;
    Ok(SUCCESS)
}

fn fd_tell(cx: &mut Cx<'_>, fd: u32, offset_out: u32) -> Result<u32, u32> {
    if fd != 1 && fd != 2 {
        return Err(BADF);
    }
    cx.write_u64(offset_out, 0).map_err(fault)?;
    Ok(SUCCESS)
}
