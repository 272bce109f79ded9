"""The gate: answers gateways whether a request may run, from the directives of the topic."""
