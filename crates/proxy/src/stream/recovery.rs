//! What becomes of a stream between its request and its response when VMs die of other streams.

use std::rc::Rc;

use super::Inner;
use crate::attributes::StreamShared;

impl Inner {
    /// Gives plugins a fresh VM for the response that have lost theirs meanwhile.
    pub(super) fn recover_filters(&mut self, shared: &Rc<StreamShared>) {
        // Kept for the log, and so whenever there is a plugin.
        let Some(request) = &self.log_fields.request_headers else { return };
        for filter in &mut self.filters {
            filter.recover(shared, request, self.is_request_bare);
        }
    }
}
