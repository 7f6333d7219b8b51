"""What users run: `pytest suites/` in a checkout, `trt-harness validate` everywhere (as `harness.suites`)."""
