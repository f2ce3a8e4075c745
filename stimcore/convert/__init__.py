"""The command that makes a run folder of published weights; its work is in `stimcore.runs.convert`."""
