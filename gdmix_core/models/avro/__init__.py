"""`BayesianLinearModelAvro`, the model files of GDMix and Photon ML."""
