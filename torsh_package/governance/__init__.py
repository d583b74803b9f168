"""Governance: audit log, metrics, policies and compliance reports."""

from torsh_package.governance.audit import AuditHead, AuditLog, AuditRecord
from torsh_package.governance.compliance import ComplianceReport, load_governed
from torsh_package.governance.metrics import MetricsCollector, OperationMetrics
from torsh_package.governance.policy import Check, GovernancePolicy

__all__ = [
    "AuditHead",
    "AuditLog",
    "AuditRecord",
    "Check",
    "ComplianceReport",
    "GovernancePolicy",
    "MetricsCollector",
    "OperationMetrics",
    "load_governed",
]
