"""Who takes part in the races: Postroom, and what people build today from what pip brings."""
