package main

import "github.com/spf13/cobra"

func newCompletion() *cobra.Command {
	c := &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print what makes a shell complete weft's commands",
		Long: `Print a script that makes a shell complete weft's commands and flags, and the names of networks, nodes and containers as the
agent knows them.`,
		Example: `  source <(weft completion bash)
  weft completion bash > /etc/bash_completion.d/weft
  weft completion zsh > "${fpath[1]}/_weft"
  weft completion fish > ~/.config/fish/completions/weft.fish
  weft completion powershell | Out-String | Invoke-Expression`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(c *cobra.Command, args []string) error {
			switch out := c.OutOrStdout(); args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(out, true)
			case "zsh":
				return c.Root().GenZshCompletion(out)
			case "fish":
				return c.Root().GenFishCompletion(out, true)
			default:
				return c.Root().GenPowerShellCompletionWithDesc(out)
			}
		},
	}
	return c
}
