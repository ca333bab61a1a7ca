// Which of the two themes, before anything is painted: what was chosen here before, else what the system prefers.
// A classic script, because a module would run after the first paint.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const choices = ["system", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("tidecast-theme");
    } catch {
      return null; // storage is forbidden: the system's preference it is
    }
  };
  let choice = choices.includes(stored()) ? stored() : "system";

  function apply() {
    root.dataset.theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
    root.dispatchEvent(new CustomEvent("theme", { detail: choice }));
  }

  dark.addEventListener("change", apply);
  root.addEventListener("next-theme", () => {
    choice = choices[(choices.indexOf(choice) + 1) % choices.length];
    try {
      localStorage.setItem("tidecast-theme", choice);
    } catch {
      // it holds until the page is closed
    }
    apply();
  });
  root.addEventListener("ask-theme", apply);
  apply();
})();
