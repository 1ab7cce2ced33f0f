"""TFRecord files and tf.train.Example records, bytes to columns and back, without TensorFlow."""
