"""Hardware of a mixture of experts: dispatch of tokens, load balance, arithmetic of the gate."""
