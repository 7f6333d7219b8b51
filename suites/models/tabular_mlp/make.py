"""Trains and writes model.onnx and patients.npz: an MLP 30-64-32-1 on scikit-learn's breast-cancer data.

    python suites/models/tabular_mlp/make.py

Needs scikit-learn 1.9.1 and onnx.  Raw features span 1e-3 to 4e3; the scaler is part of the model (Sub, Mul).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent


def tensor(name: str, values: NDArray[np.float64]) -> onnx.TensorProto:
    """An FP32 initializer."""
    return numpy_helper.from_array(values.astype(np.float32), name)


def to_onnx(scaler: StandardScaler, mlp: MLPClassifier) -> onnx.ModelProto:
    """Scaler and network as one graph with a dynamic batch; outputs the logit and the probabilities."""
    weights = [tensor("mean", scaler.mean_), tensor("inverse_scale", 1 / scaler.scale_)]
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"], "scaler/sub"),
        helper.make_node("Mul", ["centred", "inverse_scale"], ["hidden0"], "scaler/mul"),
    ]
    layers = list(zip(mlp.coefs_, mlp.intercepts_, strict=True))
    for k, (weight, bias) in enumerate(layers):
        weights += [tensor(f"weight{k}", weight), tensor(f"bias{k}", bias)]
        last = k == len(layers) - 1
        out = "logit" if last else f"linear{k}"
        nodes.append(
            helper.make_node("Gemm", [f"hidden{k}", f"weight{k}", f"bias{k}"], [out], f"layer{k}/gemm")
        )
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"hidden{k + 1}"], f"layer{k}/relu"))
    weights.append(tensor("one", np.ones(1)))
    nodes += [
        helper.make_node("Sigmoid", ["logit"], ["benign"], "head/sigmoid"),
        helper.make_node("Sub", ["one", "benign"], ["malignant"], "head/complement"),
        helper.make_node("Concat", ["malignant", "benign"], ["probabilities"], "head/concat", axis=1),
    ]

    def value(name: str, size: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])

    outputs = [value("logit", 1), value("probabilities", 2)]
    graph = helper.make_graph(nodes, "tabular_mlp", [value("features", 30)], outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Train on 70 % of the patients, keep the others as test data, write both."""
    train, test, train_labels, test_labels = train_test_split(
        *load_breast_cancer(return_X_y=True), test_size=0.3, random_state=0
    )
    scaler = StandardScaler().fit(train)
    mlp = MLPClassifier((64, 32), random_state=0, max_iter=300, learning_rate_init=3e-3, alpha=1e-3)
    mlp.fit(scaler.transform(train), train_labels)
    score = mlp.score(scaler.transform(test), test_labels)
    print(f"accuracy on {len(test)} patients not trained on: {score:.3f}")
    model = to_onnx(scaler, mlp)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, HERE / "model.onnx")
    np.savez_compressed(
        HERE / "patients.npz", features=test.astype(np.float32), labels=test_labels.astype(np.int64)
    )


if __name__ == "__main__":
    main()
