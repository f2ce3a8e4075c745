"""The dashboard: shows what the model server knows, computes nothing itself."""
