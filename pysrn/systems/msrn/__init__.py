"""MSRN (Qu et al., 2021)."""
