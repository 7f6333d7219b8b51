"""From a lowered ONNX file to a serialized engine, strongly or weakly typed."""
