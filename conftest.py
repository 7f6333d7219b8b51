pytest_plugins = ["trt_harness_pytest", "pytester"]
