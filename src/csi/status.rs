//! The one table from what went wrong to the gRPC code that kubelet sees; the text is the pod's event.
//!
//! Kubelet treats CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE, RESOURCE_EXHAUSTED and ABORTED as "may be
//! done or not, ask again"; every other code as final: it cleans up and starts over. Both lead to
//! another try after a back-off, so a pod starts by itself once what was wrong is mended.
//!
//! | error | code | who acts |
//! | --- | --- | --- |
//! | Invalid, a target outside | INVALID_ARGUMENT | the author of the pod |
//! | Refused, NotAllowed | PERMISSION_DENIED | who keeps Vault, who keeps the driver's configuration |
//! | NotReady | FAILED_PRECONDITION | an operator |
//! | NotYet | UNAVAILABLE | nobody: Vault is away |
//! | Conflict | ALREADY_EXISTS | nobody: kubelet's mistake |
//! | Host | INTERNAL | an operator of the node |
//! | in flight | ABORTED | nobody |
//! | over the bound | DEADLINE_EXCEEDED | nobody: the work goes on, kubelet asks again |

use tonic::{Code, Status};

use crate::fs::serve::MountError;
use crate::spec::mistake::Mistake;
use crate::volume::{PublishError, UnpublishError};

/// A publish that failed.
pub(super) fn publish(error: &PublishError) -> Status {
    let code = match error {
        PublishError::Invalid(_) => Code::InvalidArgument,
        PublishError::Refused(_) | PublishError::NotAllowed(_) => Code::PermissionDenied,
        PublishError::NotReady(_) => Code::FailedPrecondition,
        PublishError::NotYet(_) => Code::Unavailable,
        PublishError::Conflict(_) => Code::AlreadyExists,
        PublishError::Host(error) => mount(error),
    };
    Status::new(code, error.to_string())
}

/// An unpublish that failed.
pub(super) fn unpublish(error: &UnpublishError) -> Status {
    let code = match error {
        UnpublishError::Invalid(_) => Code::InvalidArgument,
        UnpublishError::Host(error) => mount(error),
    };
    Status::new(code, error.to_string())
}

/// A request that says nothing sensible.
pub(super) fn invalid(mistakes: Vec<Mistake>) -> Status {
    publish(&PublishError::Invalid(mistakes))
}

/// Another call for the same volume is under way.
pub(super) fn in_flight(volume: &str) -> Status {
    Status::aborted(format!("another operation on volume {volume} is under way"))
}

/// The bound on kubelet's wait passed; the work goes on.
pub(super) fn still_under_way() -> Status {
    Status::deadline_exceeded("still under way; kubelet asks again")
}

/// The work died without an answer: a bug, told rather than hidden.
pub(super) fn died() -> Status {
    Status::internal("the operation ended without an outcome; see the driver's log")
}

fn mount(error: &MountError) -> Code {
    match error {
        MountError::Outside { .. } => Code::InvalidArgument,
        MountError::Host { .. } => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_its_code_and_its_text() {
        let outside = || MountError::Outside {
            target: "/etc".into(),
            root: "/var/lib/kubelet".into(),
            why: "outside".into(),
        };
        let host = || MountError::Host { step: "mount", source: std::io::Error::other("no") };
        let mistake = || {
            vec![
                Mistake { place: "role".into(), what: "missing".into(), instead: "set it".into() },
                Mistake { place: "a/fild".into(), what: "unknown".into(), instead: String::new() },
            ]
        };
        let table: [(PublishError, Code, &str); 8] = [
            (
                PublishError::Invalid(mistake()),
                Code::InvalidArgument,
                "role: missing; set it; a/fild: unknown",
            ),
            (PublishError::Refused("no".into()), Code::PermissionDenied, "no"),
            (PublishError::NotAllowed("no".into()), Code::PermissionDenied, "no"),
            (PublishError::NotReady("wait".into()), Code::FailedPrecondition, "wait"),
            (PublishError::NotYet("away".into()), Code::Unavailable, "away"),
            (
                PublishError::Conflict("at /b".into()),
                Code::AlreadyExists,
                "another volume is published under this id: at /b",
            ),
            (
                outside().into(),
                Code::InvalidArgument,
                "/etc is not a plain path below /var/lib/kubelet: outside",
            ),
            (host().into(), Code::Internal, "mount: no"),
        ];
        for (error, code, text) in table {
            let status = publish(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
        assert_eq!(unpublish(&host().into()).code(), Code::Internal);
        assert_eq!(unpublish(&outside().into()).code(), Code::InvalidArgument);
        assert_eq!(unpublish(&UnpublishError::Invalid(mistake())).code(), Code::InvalidArgument);
        assert_eq!(in_flight("v").code(), Code::Aborted);
    }
}
