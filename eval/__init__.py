"""Predictions in, numbers with n and an interval out: metrics, baselines, tables."""
