"""What an assigner did, what a data set holds and where detections go wrong: numbers, pictures and pages."""
