"""What every room needs: errors, registry, counter hash and seed streams, small shared types, events."""
