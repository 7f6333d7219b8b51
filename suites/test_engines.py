"""Each engine is built, is what was asked for, and is found again in the cache unchanged."""

from dataclasses import replace

import pytest


def test_engine(case, subject, ranges, built, backend_info, record, reproduce):
    """The engine was built; the backend's audit of requested against actual finds no broken promise.

    Where nothing tells whether a promise is kept, the engine is unverified.
    """
    audit = built.manifest.audit
    data = {
        "build_s": None if built.hit else built.manifest.build_s,
        "hit": built.hit,
        "reason": built.reason,
        "engine_bytes": built.manifest.engine_bytes,
        "device": backend_info.device,
        "manifest": built.manifest.to_json(),
        "ranges": ranges.to_json(),
    }
    verdict = "fail" if audit.problems else "unverified" if audit.unknown else "pass"
    message = "; ".join(audit.problems or audit.unknown)
    deployment = subject.deployment
    if deployment.refused:
        verdict, message = "not-deployable", "; ".join([deployment.message(), *audit.problems])
    made = record(
        verdict,
        data=data,
        message=message,
        manifest=built.manifest.hash,
        warnings=(*subject.remarks, *deployment.warnings(), *ranges.warnings),
        caveats=deployment.caveats(),
    )
    if made.fails:
        context = "".join(f"\n  {line}" for line in (*subject.remarks, f"reproduce: {reproduce}"))
        pytest.fail(f"{case.spec.name}[{case.precision}]: {message}{context}", pytrace=False)
    assert audit.requested == case.precision
    again = replace(subject).engine(case.precision)
    assert again.hit, f"{case.spec.name}[{case.precision}]: not found again in the cache: {again.reason}"
    assert again.manifest == built.manifest


def test_manifest(case, built):
    """The manifest says what the engine depends on, and what it is."""
    found = built.manifest
    assert set(found.hashes) >= {"model", "plan", "options", "calibration"}
    assert all(found.hashes[name] for name in ("model", "plan", "options"))
    assert bool(found.hashes["calibration"]) == case.precision.quantized
    assert found.versions["runtime"]
    assert found.asked["precision"] == case.precision
    assert found.build_s > 0
    assert found.engine_bytes > 0
