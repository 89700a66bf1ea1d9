//! `nanofaas crd`: the CustomResourceDefinition by which functions are resources of Kubernetes.

use std::process::ExitCode;

use super::{failure::Failure, output::Output};

/// As the chart installs it.
const DEFINITION: &str = include_str!("../../../deploy/helm/nanofaas/crd/functions.yaml");

pub(super) fn print(output: Output) -> Result<ExitCode, Failure> {
    output.text(DEFINITION.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
