"""OTP's behaviours as classes: GenServer and Supervisor."""
