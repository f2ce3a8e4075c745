"""The dashboard: shows what the model server answers and computes nothing itself."""
