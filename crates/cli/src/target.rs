//! Which workload the proxy stands for, and the modules that are mounted into it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;
use wasmplug_api::{
    ModuleUrl, Mounts, Plan, PlannedFilter, Resource, Workload, WorkloadRole, find_workload,
};

use crate::args::WorkloadArguments;
use crate::diagnostics::WithHint;

/// The workload that was asked for.
pub(crate) struct Target {
    pub(crate) workload: Workload,
    pub(crate) mounts: Mounts,
    /// Something that a person should know about the choice.
    pub(crate) note: Option<String>,
}

/// A folder of this run that mounted modules are copied into; it is removed at the end.
pub(crate) struct MountedFiles {
    folder: Option<TempDir>,
}

// === impl Target ===

impl Target {
    /// Takes the workload from the arguments, or from the resources by its name.
    ///
    /// # Errors
    /// There is no workload of that name.
    pub(crate) fn find(
        arguments: &WorkloadArguments,
        resources: &[Resource],
    ) -> anyhow::Result<Self> {
        let mut target = match &arguments.workload {
            None => Self::described(arguments),
            Some(name) => Self::named(name, arguments, resources)?,
        };
        target.workload.labels.extend(arguments.labels.iter().cloned());
        target.workload.port = arguments.port.unwrap_or(target.workload.port);
        Ok(target)
    }

    fn described(arguments: &WorkloadArguments) -> Self {
        let namespace = arguments.namespace.as_deref().unwrap_or("default");
        let role = arguments.role.unwrap_or(WorkloadRole::SidecarInbound);
        let mut workload = Workload::new(namespace, role);
        workload.root_namespace.clone_from(&arguments.root_namespace);
        Self { workload, mounts: Mounts::default(), note: None }
    }

    fn named(
        name: &str,
        arguments: &WorkloadArguments,
        resources: &[Resource],
    ) -> anyhow::Result<Self> {
        let found = find_workload(resources, name).map_err(|error| {
            let hint = error.hint();
            WithHint::wrap(error, hint)
        })?;
        let role = arguments.role.unwrap_or(found.role);
        let workload = found.workload(role, &arguments.root_namespace);
        let is_ambiguous = arguments.port.is_none() && found.ports.len() > 1;
        let is_about_ports = matches!(role, WorkloadRole::SidecarInbound | WorkloadRole::Gateway);
        let note = (is_ambiguous && is_about_ports).then(|| {
            let ports: Vec<_> = found.ports.iter().map(u16::to_string).collect();
            format!(
                "{} {} listens on ports {}: `match.ports` excludes nothing; choose one with `--port`",
                found.kind,
                found.name,
                ports.join(", ")
            )
        });
        Ok(Self { workload, mounts: found.mounts, note })
    }
}

// === impl MountedFiles ===

impl MountedFiles {
    pub(crate) fn new() -> Self {
        Self { folder: None }
    }

    /// Lets the plan find the modules that are mounted into the workload: they are written into
    /// the run's own folder, below the paths that they have in the workload.
    ///
    /// # Errors
    /// A plugin wants a file of a mount that is not there, or the folder cannot be written.
    pub(crate) fn resolve(
        &mut self,
        plan: &mut Plan,
        mounts: &Mounts,
        resources: &[Resource],
    ) -> anyhow::Result<()> {
        if mounts.is_empty() {
            return Ok(());
        }
        for filter in &mut plan.filters {
            let PlannedFilter::Wasm(plugin) = filter else { continue };
            let ModuleUrl::File(path) = &plugin.url else { continue };
            let bytes = mounts
                .file(path, resources)
                .with_context(|| format!("cannot find the module of `{}`", plugin.resource))?;
            if let Some(bytes) = bytes {
                let place = self.place(path)?;
                // A module that is being read by its old name is not torn: the new one replaces it.
                let aside = place.with_extension("new");
                fs_err::write(&aside, &bytes)?;
                fs_err::rename(&aside, &place)?;
                plugin.url = ModuleUrl::File(place);
            }
        }
        Ok(())
    }

    /// The place of a file of the workload, which is absolute and leads nowhere upwards.
    fn place(&mut self, path: &Path) -> anyhow::Result<PathBuf> {
        let folder = match &mut self.folder {
            Some(folder) => folder,
            none => none.insert(TempDir::with_prefix("wasmplug-mounts-")?),
        };
        let place = folder.path().join(path.strip_prefix("/").unwrap_or(path));
        if let Some(parent) = place.parent() {
            fs_err::create_dir_all(parent)?;
        }
        Ok(place)
    }
}
