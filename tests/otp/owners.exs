# Reads [{Members, [Key]}] from the first file and writes [[Owner]] to the second one. The function `owner` is the one
# that the guide shows, for a list of members in place of a group.
defmodule Owners do
  def owner(members, key),
    do: members |> Enum.sort() |> Enum.max_by(&:erlang.md5("#{node(&1)}\0#{key}"), fn -> nil end)
end

[source, target] = System.argv()

owners =
  for {members, keys} <- :erlang.binary_to_term(File.read!(source)),
      do: for(key <- keys, do: Owners.owner(members, key))

File.write!(target, :erlang.term_to_binary(owners))
