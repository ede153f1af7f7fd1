defmodule Erlmesh.MixProject do
  use Mix.Project

  def project do
    [
      app: :erlmesh,
      version: "0.1.0",
      elixir: "~> 1.14",
      description: "Python nodes under an Elixir supervisor",
      package: [
        licenses: ["Apache-2.0"],
        files: ["lib", "mix.exs", ".formatter.exs", "README.md"],
        links: %{}
      ],
      deps: []
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
