"""Scans packages for attacks, secrets, weak cryptography and known vulnerabilities; refuses."""

from .advisories import Advisory, AdvisoryDatabase
from .findings import Exemption, Finding, ScanPolicy, ScanReport, Severity
from .scanner import VulnerabilityScanner

__all__ = [
    "Advisory",
    "AdvisoryDatabase",
    "Exemption",
    "Finding",
    "ScanPolicy",
    "ScanReport",
    "Severity",
    "VulnerabilityScanner",
]
