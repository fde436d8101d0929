//! Listening sockets go from one process to its successor, so that no connection is refused.
//!
//! ```text
//! running process                    successor
//!      │ <──────── connect ─────────────┤   over a socket in the file system
//!      ├── addresses, listening sockets ─>   both accept from here on
//!      │ <──────── "ready" ─────────────┤   it has its first chain
//!   drains and ends
//! ```
//!
//! A socket that is handed over stays open from the first process to the last, and with it the
//! connections that wait in it; closing it in one process and binding it in another would reset
//! them. Who may connect decides the file system: the socket's file is for its owner alone.

use std::fs::Permissions;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Most sockets in one message. Source: the kernel takes 253 (`SCM_MAX_FD`).
const BATCH: usize = 64;
/// Most sockets that are taken over: one for each of 256 workers, and one for the admin pages.
const MAX_SOCKETS: usize = 257;
/// How long either side waits for the other to say something. Source: ours.
const PATIENCE: Duration = Duration::from_secs(10);
/// First byte of an offer, so that a foreign socket is told from one of ours.
const VERSION: u8 = 1;
/// What the successor says when it serves.
const READY: u8 = b'R';

/// Listening sockets of a data plane.
#[derive(Debug)]
pub struct Sockets {
    /// Where clients connect; at least one.
    pub traffic: Vec<TcpListener>,
    /// Where the admin pages are.
    pub admin: Option<TcpListener>,
}

/// What a successor got from the process before it.
#[derive(Debug)]
pub struct Inheritance {
    sockets: Option<Sockets>,
    stream: UnixStream,
}

/// Waits for successors, at a path in the file system.
#[derive(Debug)]
pub struct HandoverPoint {
    listener: UnixListener,
    path: PathBuf,
}

/// Why sockets are not handed over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The socket in the file system cannot be made or connected to.
    #[error("cannot hand sockets over at `{path}`")]
    Path {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The other side broke off, or is none of ours.
    #[error("the process at `{path}` did not hand its sockets over")]
    Peer {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

// === impl HandoverError ===

impl HandoverError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Path { .. } => "give a path whose folder exists and is yours".to_owned(),
            Self::Peer { path, .. } => format!(
                "stop what listens at `{}`, or give another path: it is no process that hands over",
                path.display()
            ),
        })
    }
}

// === impl Inheritance ===

impl Inheritance {
    /// Takes the sockets of the process that waits at this path. `None` if nobody does.
    ///
    /// Blocks for up to 10 s.
    ///
    /// # Errors
    /// Somebody is there and hands nothing over.
    pub fn take(path: &Path) -> Result<Option<Self>, HandoverError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(source) => return Err(HandoverError::Path { path: path.to_owned(), source }),
        };
        match receive(&stream) {
            Ok(sockets) => Ok(Some(Self { sockets: Some(sockets), stream })),
            Err(source) => Err(HandoverError::Peer { path: path.to_owned(), source }),
        }
    }

    /// Takes the sockets out, once.
    pub fn take_sockets(&mut self) -> Option<Sockets> {
        self.sockets.take()
    }

    /// Tells the process before that this one serves, so that it drains and ends.
    ///
    /// # Errors
    /// It has ended already, which is no harm.
    pub fn ready(mut self) -> io::Result<()> {
        self.stream.write_all(&[READY])
    }
}

// === impl HandoverPoint ===

impl HandoverPoint {
    /// Makes the socket in the file system, in the place of one that nobody listens at.
    ///
    /// # Errors
    /// [`HandoverError::Path`]
    pub fn bind(path: &Path) -> Result<Self, HandoverError> {
        let error = |source| HandoverError::Path { path: path.to_owned(), source };
        // Made aside and renamed: there is no moment without one, and none at which others may use
        // it.
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let bind = || {
            let _ = std::fs::remove_file(&aside);
            let listener = UnixListener::bind(&aside)?;
            std::fs::set_permissions(&aside, Permissions::from_mode(0o600))?;
            std::fs::rename(&aside, path)?;
            Ok(listener)
        };
        Ok(Self { listener: bind().map_err(error)?, path: path.to_owned() })
    }

    /// Waits until a successor serves on these sockets, or until they are gone. Blocks; to be called
    /// on a thread of its own.
    ///
    /// A successor that does not get so far is forgotten, and the next one waited for. Nothing but
    /// an offer keeps the sockets open.
    ///
    /// # Errors
    /// [`HandoverError::Path`] if no successor can connect any more.
    pub fn wait(&self, sockets: &Weak<Sockets>) -> Result<(), HandoverError> {
        loop {
            let accepted = self.listener.accept();
            let (stream, _) = accepted.map_err(|source| {
                let path = self.path.clone();
                HandoverError::Path { path, source }
            })?;
            let Some(sockets) = sockets.upgrade() else { return Ok(()) };
            match offer(&stream, &sockets) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(error = %error, "a successor did not take over");
                }
            }
        }
    }
}

/// Sends the sockets and waits until the successor serves. How long that takes is not known: it may
/// have to fetch and to compile.
fn offer(stream: &UnixStream, sockets: &Sockets) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let all: Vec<BorrowedFd<'_>> =
        sockets.admin.iter().chain(&sockets.traffic).map(AsFd::as_fd).collect();
    let count = u16::try_from(all.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let [high, low] = count.to_be_bytes();
    let head = [VERSION, u8::from(sockets.admin.is_some()), high, low];
    let mut stream_out = stream;
    stream_out.write_all(&head)?;
    for batch in all.chunks(BATCH) {
        send_batch(stream, batch)?;
    }
    let mut answer = [0];
    let mut stream_in = stream;
    stream_in.read_exact(&mut answer)?;
    if answer == [READY] { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn send_batch(stream: &UnixStream, batch: &[BorrowedFd<'_>]) -> io::Result<()> {
    let message = SendAncillaryMessage::ScmRights(batch);
    let mut space = vec![MaybeUninit::uninit(); message.size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(message) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // A message needs a byte to go with.
    let sent = sendmsg(stream, &[IoSlice::new(&[VERSION])], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn receive(stream: &UnixStream) -> io::Result<Sockets> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = [0; 4];
    let mut stream_in = stream;
    stream_in.read_exact(&mut head)?;
    let [version, has_admin, high, low] = head;
    let count = usize::from(u16::from_be_bytes([high, low]));
    if version != VERSION || has_admin > 1 || count <= usize::from(has_admin) || count > MAX_SOCKETS
    {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut sockets: Vec<TcpListener> = Vec::with_capacity(count);
    while sockets.len() < count {
        let batch = receive_batch(stream)?;
        if batch.is_empty() || sockets.len().saturating_add(batch.len()) > count {
            return Err(io::ErrorKind::InvalidData.into());
        }
        for socket in batch {
            let listener = TcpListener::from(socket);
            // One that listens nowhere is no socket of ours.
            listener.local_addr()?;
            sockets.push(listener);
        }
    }
    let admin = (has_admin == 1).then(|| sockets.remove(0));
    Ok(Sockets { traffic: sockets, admin })
}

fn receive_batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let placeholder = [stream.as_fd(); BATCH];
    let room = SendAncillaryMessage::ScmRights(&placeholder).size();
    let mut space = vec![MaybeUninit::uninit(); room];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    // Not to be inherited by programs that are run, such as helpers of logins.
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags)?;
    if received.bytes != 1 || byte != [VERSION] {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

// === impl Sockets ===

impl Sockets {
    /// Where clients connect, if the system tells it.
    pub fn address(&self) -> Option<SocketAddr> {
        self.traffic.first()?.local_addr().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::{
        HandoverError, HandoverPoint, Inheritance, MAX_SOCKETS, Sockets, UnixStream, offer, receive,
    };

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn sockets_go_over_with_the_connections_that_wait_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        let point = HandoverPoint::bind(&path).unwrap();
        let traffic: Vec<TcpListener> = (0..100).map(|_| listener()).collect();
        let address = traffic[99].local_addr().unwrap();
        let sockets = Sockets { traffic, admin: Some(listener()) };
        let admin = sockets.admin.as_ref().unwrap().local_addr().unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let before = std::thread::spawn(move || {
            let sockets = Arc::new(sockets);
            point.wait(&Arc::downgrade(&sockets))
        });
        let mut inherited = Inheritance::take(&path).unwrap().unwrap();
        let sockets = inherited.take_sockets().unwrap();
        assert_eq!(sockets.traffic.len(), 100);
        assert_eq!(sockets.admin.as_ref().unwrap().local_addr().unwrap(), admin);
        let listener = &sockets.traffic[99];
        inherited.ready().unwrap();
        // The process before has dropped its own by now.
        before.join().unwrap().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.write_all(b"x").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
    }

    #[test]
    fn nobody_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        assert!(Inheritance::take(&path).unwrap().is_none());
        drop(HandoverPoint::bind(&path).unwrap());
        assert!(Inheritance::take(&path).unwrap().is_none(), "a file that was left");
        assert!(matches!(
            HandoverPoint::bind(&folder.path().join("absent/handover")),
            Err(HandoverError::Path { .. })
        ));
    }

    #[test]
    fn a_successor_that_dies_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover");
        let point = HandoverPoint::bind(&path).unwrap();
        let sockets = Sockets { traffic: vec![listener()], admin: None };
        let before = std::thread::spawn(move || {
            let sockets = Arc::new(sockets);
            point.wait(&Arc::downgrade(&sockets))
        });
        drop(Inheritance::take(&path).unwrap().unwrap());
        Inheritance::take(&path).unwrap().unwrap().ready().unwrap();
        before.join().unwrap().unwrap();
    }

    #[test]
    fn a_foreign_socket_hands_nothing_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("foreign");
        let foreign = UnixListener::bind(&path).unwrap();
        for bytes in [&b"HTTP"[..], &[1, 0, 0, 0], &[1, 0, 2, 0], &[1, 1, 0, 1], &[1, 0, 0, 1], b""]
        {
            let talk = std::thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = foreign.accept().unwrap();
                    stream.write_all(bytes).unwrap();
                });
                Inheritance::take(&path)
            });
            assert!(matches!(talk, Err(HandoverError::Peer { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn no_more_sockets_are_taken_over_than_there_can_be() {
        let listener = listener();
        let taken = |count: usize| {
            let (before, after) = UnixStream::pair().unwrap();
            let traffic = (0..count).map(|_| listener.try_clone().unwrap()).collect();
            let sockets = Sockets { traffic, admin: None };
            std::thread::scope(|scope| {
                // Ends without an answer, because this end is closed.
                scope.spawn(move || offer(&before, &sockets).unwrap_err());
                let taken = receive(&after).map(|sockets| sockets.traffic.len());
                drop(after);
                taken.map_err(|error| error.kind())
            })
        };
        assert_eq!(taken(MAX_SOCKETS), Ok(MAX_SOCKETS));
        assert_eq!(taken(MAX_SOCKETS + 1), Err(std::io::ErrorKind::InvalidData));
    }
}
