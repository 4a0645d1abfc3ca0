"""The MIL-CNN: its layers and pooling functions, how it is trained, and what it predicts."""
