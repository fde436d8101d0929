//! The store against real servers on loopback: registries and web servers, well-behaved or not.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod addresses;
mod archive;
mod cache;
mod crash;
mod credentials;
mod digests;
mod disk;
mod docker_registry;
mod failures;
mod fixture;
mod foreign;
mod http;
mod images;
mod key_sets;
mod limits;
mod local_file;
mod mirrors;
mod openssl;
mod policy;
mod push;
mod signatures;
mod tls;
