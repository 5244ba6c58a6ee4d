"""MLflow: logs the ONNX model as its documentation shows. `mlflow_model.py MODEL FOLDER`."""

import sys

import mlflow.onnx
import onnx

if __name__ == "__main__":
    mlflow.onnx.save_model(
        onnx.load(sys.argv[1]),
        sys.argv[2],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
    )
