//! Exit statuses, by whose fault it is.

use std::process::ExitCode;

/// The user's resource, plugin or address is at fault.
const AT_FAULT: u8 = 1;

/// The status for an error. Wrong usage is 2 and a crash of ours 70, elsewhere.
pub(crate) fn code(_error: &anyhow::Error) -> ExitCode {
    ExitCode::from(AT_FAULT)
}
