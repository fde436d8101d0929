//! Exit statuses, by whose fault it is: 0 fine, 1 what the user gave, 2 wrong usage (clap).

use std::process::ExitCode;

/// The user's resource, plugin or address is at fault.
const AT_FAULT: u8 = 1;

/// The status for an error.
pub(crate) fn code(_error: &anyhow::Error) -> ExitCode {
    ExitCode::from(AT_FAULT)
}
