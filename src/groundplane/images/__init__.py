"""From an environment to a lock to an image, with its SBOM and provenance."""
