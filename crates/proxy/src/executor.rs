//! Where HTTP/2 connections run the tasks that they need.

use std::future::Future;

/// Runs tasks on the worker that asks. They end with the connection that they belong to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

// === impl LocalExecutor ===

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
