//! HTTP for operators: /livez, /readyz, /metrics.
