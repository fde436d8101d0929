//! The binary as a user meets it: exit status, what it prints, what its traffic does.

mod errors;
mod explain;
mod process;
mod quickstart;
mod reload;
mod scenario;
