"""The MKS 937B vacuum gauge controller."""
