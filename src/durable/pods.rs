//! What functions say about their Pods, on its way to the log and back. Taken apart member by member, like the rest of them.

use nanofaas_store::function as disk;
use nanofaas_wire::function::{PodOptions, Toleration, TopologySpread, Volume, VolumeSource};

pub(super) fn pod_to_disk(pod: PodOptions) -> disk::Pod {
    let PodOptions {
        container_port,
        health_path,
        node_selector,
        tolerations,
        topology_spread_constraints,
        annotations,
        labels,
        service_account_name,
        read_only_root_filesystem,
        volumes,
    } = pod;
    disk::Pod {
        container_port,
        health_path,
        node_selector,
        tolerations: tolerations.into_iter().map(toleration_to_disk).collect(),
        topology_spread_constraints: topology_spread_constraints.into_iter().map(spread_to_disk).collect(),
        annotations,
        labels,
        service_account_name,
        read_only_root_filesystem,
        volumes: volumes.into_iter().map(volume_to_disk).collect(),
    }
}

pub(super) fn pod_from_disk(pod: disk::Pod) -> PodOptions {
    let disk::Pod {
        container_port,
        health_path,
        node_selector,
        tolerations,
        topology_spread_constraints,
        annotations,
        labels,
        service_account_name,
        read_only_root_filesystem,
        volumes,
    } = pod;
    PodOptions {
        container_port,
        health_path,
        node_selector,
        tolerations: tolerations.into_iter().map(toleration_from_disk).collect(),
        topology_spread_constraints: topology_spread_constraints.into_iter().map(spread_from_disk).collect(),
        annotations,
        labels,
        service_account_name,
        read_only_root_filesystem,
        volumes: volumes.into_iter().map(volume_from_disk).collect(),
    }
}

fn toleration_to_disk(toleration: Toleration) -> disk::Toleration {
    let Toleration { key, operator, value, effect, toleration_seconds } = toleration;
    disk::Toleration { key, operator, value, effect, toleration_seconds }
}

fn toleration_from_disk(toleration: disk::Toleration) -> Toleration {
    let disk::Toleration { key, operator, value, effect, toleration_seconds } = toleration;
    Toleration { key, operator, value, effect, toleration_seconds }
}

fn spread_to_disk(spread: TopologySpread) -> disk::Spread {
    let TopologySpread { max_skew, topology_key, when_unsatisfiable } = spread;
    disk::Spread { max_skew, topology_key, when_unsatisfiable }
}

fn spread_from_disk(spread: disk::Spread) -> TopologySpread {
    let disk::Spread { max_skew, topology_key, when_unsatisfiable } = spread;
    TopologySpread { max_skew, topology_key, when_unsatisfiable }
}

fn volume_to_disk(volume: Volume) -> disk::Volume {
    let Volume { name, mount_path, sub_path, read_only, source } = volume;
    let source = match source {
        VolumeSource::ConfigMap { name } => disk::Source::ConfigMap { name },
        VolumeSource::Secret { secret_name } => disk::Source::Secret { secret_name },
        VolumeSource::EmptyDir { medium, size_limit } => disk::Source::EmptyDir { medium, size_limit },
        VolumeSource::PersistentVolumeClaim { claim_name } => {
            disk::Source::PersistentVolumeClaim { claim_name }
        }
    };
    disk::Volume { name, mount_path, sub_path, read_only, source }
}

fn volume_from_disk(volume: disk::Volume) -> Volume {
    let disk::Volume { name, mount_path, sub_path, read_only, source } = volume;
    let source = match source {
        disk::Source::ConfigMap { name } => VolumeSource::ConfigMap { name },
        disk::Source::Secret { secret_name } => VolumeSource::Secret { secret_name },
        disk::Source::EmptyDir { medium, size_limit } => VolumeSource::EmptyDir { medium, size_limit },
        disk::Source::PersistentVolumeClaim { claim_name } => {
            VolumeSource::PersistentVolumeClaim { claim_name }
        }
    };
    Volume { name, mount_path, sub_path, read_only, source }
}
