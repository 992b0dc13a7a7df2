"""From a config to what is looked at: assignments, data, detections, feature maps."""
