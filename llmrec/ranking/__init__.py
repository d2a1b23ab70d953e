"""From candidates to calibrated click probabilities: retrieval, click model, calibration,
re-ranking, monitoring.
"""
