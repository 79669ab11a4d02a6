"""The paper's claims, each with our verdict and the evidence for it."""
