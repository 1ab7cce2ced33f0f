"""The fixed point for λ, and the derivatives that it needs."""
