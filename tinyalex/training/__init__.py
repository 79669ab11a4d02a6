"""The training loop, the update rule, the schedule, evaluation, and checks that training goes well."""
