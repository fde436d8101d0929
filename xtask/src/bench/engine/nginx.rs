//! The configurations of nginx: the upstream of all engines, and the engine without plugins.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use fs_err as fs;

use crate::bench::engine::{Certificate, Ports};
use crate::bench::workload::{Case, LARGE_BODY, Workload};

/// Where files of the upstream lie, in its folder.
const FILES: &str = "files";

/// The upstream: 96 bytes for most paths, 1 MiB from a file, and a path that reads a body to its
/// end before it answers.
pub(super) fn upstream(program: &Path, work: &Path, port: u16) -> anyhow::Result<Command> {
    let folder = work.join("nginx-upstream");
    fs::create_dir_all(folder.join(FILES))?;
    fs::write(folder.join(FILES).join("large"), vec![b'x'; LARGE_BODY])?;
    command(program, &folder, 1, &upstream_servers(port))
}

/// The engine.
pub(super) fn proxy(
    program: &Path,
    work: &Path,
    case: Case,
    ports: &Ports,
) -> anyhow::Result<Command> {
    let servers = proxy_server(case, ports, &Certificate::in_folder(work));
    command(program, &work.join("nginx-proxy"), case.workers, &servers)
}

fn command(program: &Path, folder: &Path, workers: usize, http: &str) -> anyhow::Result<Command> {
    fs::create_dir_all(folder)?;
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration(workers, http))?;
    let mut command = Command::new(program);
    command.arg("-e").arg("stderr").arg("-p").arg(folder).arg("-c").arg(path);
    Ok(command)
}

/// Writes nowhere but in its own folder. One worker is one process.
fn configuration(workers: usize, http: &str) -> String {
    // Workers of a master that runs as root change their user, who may not enter the folder.
    let processes = if workers > 1 {
        format!("master_process on;\nworker_processes {workers};\nuser root;\n")
    } else {
        "master_process off;\nworker_processes 1;\n".to_owned()
    };
    format!(
        "daemon off;\n{processes}pid nginx.pid;\n\
         error_log stderr error;\nevents {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  \
         client_body_temp_path body;\n  proxy_temp_path proxy;\n  fastcgi_temp_path fastcgi;\n  \
         uwsgi_temp_path uwsgi;\n  scgi_temp_path scgi;\n{http}}}\n"
    )
}

fn upstream_servers(port: u16) -> String {
    let answer = "x".repeat(96);
    let (large, upload) = (Workload::Large.path(), Workload::Upload.path());
    // `return` alone would answer before the body has come.
    format!(
        "  upstream self {{\n    server 127.0.0.1:{port};\n    keepalive 64;\n    \
         keepalive_requests 1000000000;\n  }}\n  server {{\n    listen 127.0.0.1:{port};\n    \
         client_max_body_size 0;\n    client_body_buffer_size {body};\n    \
         location / {{ return 200 \"{answer}\"; }}\n    \
         location = {large} {{ root {FILES}; }}\n    \
         location = {upload} {{\n      proxy_pass http://self/;\n      \
         proxy_pass_request_body off;\n      proxy_set_header Content-Length \"\";\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n",
        body = 2 * LARGE_BODY,
    )
}

/// Bodies are streamed: nothing goes to disk, and nothing is gathered first.
fn proxy_server(case: Case, ports: &Ports, certificate: &Certificate) -> String {
    let mut server = String::new();
    // As Envoy's workers, each has a queue of connections of its own.
    let reuse = if case.workers > 1 { " reuseport" } else { "" };
    let protocol = match case.workload {
        Workload::Http2 => " http2",
        Workload::Tls => " ssl",
        _ => "",
    };
    let _ = writeln!(server, "    listen 127.0.0.1:{}{protocol}{reuse};", ports.listen);
    if case.workload == Workload::Http2 {
        // This one speaks HTTP/1.1: the other refuses it.
        let _ = writeln!(server, "    listen 127.0.0.1:{};", ports.admin);
    }
    if case.workload == Workload::Tls {
        let Certificate { chain, key } = certificate;
        let (chain, key) = (chain.display(), key.display());
        let _ = writeln!(server, "    ssl_certificate {chain};\n    ssl_certificate_key {key};");
        server.push_str("    ssl_protocols TLSv1.2 TLSv1.3;\n");
    }
    format!(
        "  upstream upstream {{\n    server 127.0.0.1:{};\n    keepalive 64;\n    \
         keepalive_requests 1000000000;\n  }}\n  server {{\n{server}    \
         client_max_body_size 0;\n    \
         location / {{\n      proxy_pass http://upstream;\n      proxy_http_version 1.1;\n      \
         proxy_request_buffering off;\n      proxy_max_temp_file_size 0;\n      \
         proxy_set_header Connection \"\";\n    }}\n  }}\n",
        ports.upstream
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::engine::Engine;

    const PORTS: Ports = Ports { listen: 1, admin: 2, upstream: 3 };

    fn server(workload: Workload, workers: usize) -> String {
        let case = Case { engine: Engine::Nginx, plugins: 0, workload, workers };
        proxy_server(case, &PORTS, &Certificate::in_folder(Path::new("work")))
    }

    #[test]
    fn nginx_speaks_what_is_measured() {
        for (workload, workers, listen) in [
            (Workload::Small, 1, "listen 127.0.0.1:1;"),
            (Workload::Rate, 2, "listen 127.0.0.1:1 reuseport;"),
            (Workload::Http2, 1, "listen 127.0.0.1:1 http2;"),
            (Workload::Tls, 1, "listen 127.0.0.1:1 ssl;"),
        ] {
            assert!(server(workload, workers).contains(listen), "{workload:?}");
        }
        assert!(server(Workload::Tls, 1).contains("ssl_certificate_key work/key.pem;"));
        assert!(!server(Workload::Small, 1).contains("ssl"));
        assert!(!server(Workload::Small, 1).contains("127.0.0.1:2"));
    }

    #[test]
    fn several_workers_need_a_master() {
        for (workers, process) in [(1, "master_process off;"), (2, "master_process on;")] {
            assert!(configuration(workers, "").contains(process), "{workers}");
        }
    }
}
