"""The criteria behind the paper's claims: each function judges the stored results of an experiment against one of them.

A verdict follows from the measured number alone; `clear` adds whether the whole interval lies on the same side.
"""
