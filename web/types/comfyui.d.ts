/** What this pack uses of ComfyUI's frontend, and no more. Written from observation of 1.38 to 1.58. */

export interface Widget {
  name: string;
  type: string;
  value: unknown;
  label?: string;
  hidden?: boolean;
  serialize?: boolean;
  element?: HTMLElement;
  options: WidgetOptions;
  callback?: (value: unknown, ...rest: unknown[]) => void;
  computeSize?: (width: number) => [number, number];
  serializeValue?: (node: Node, index: number) => unknown;
}

export interface WidgetOptions {
  values?: unknown;
  hidden?: boolean;
  serialize?: boolean;
  getOptionLabel?: (value: string | null) => string;
}

export interface DomWidgetOptions {
  serialize?: boolean;
  hideOnZoom?: boolean;
  getMinHeight?: () => number;
  getValue?: () => string;
  setValue?: (value: string) => void;
}

export interface InputSlot {
  name: string;
  link?: number | null;
}

export interface Node {
  id: string | number;
  type?: string;
  title?: string;
  comfyClass?: string;
  graph?: Graph | null;
  subgraph?: Graph;
  widgets?: Widget[];
  inputs?: InputSlot[];
  properties?: Record<string, unknown>;
  size: [number, number];
  addDOMWidget(name: string, type: string, element: HTMLElement, options: DomWidgetOptions): Widget;
  computeSize?(): [number, number];
  setSize?(size: [number, number]): void;
  isInputConnected?(slot: number): boolean;
  setDirtyCanvas?(foreground: boolean, background?: boolean): void;
  onConnectionsChange?: (...args: unknown[]) => unknown;
  onConfigure?: (...args: unknown[]) => unknown;
  onRemoved?: (...args: unknown[]) => unknown;
}

export interface Graph {
  id?: string;
  nodes?: Node[];
  _nodes?: Node[];
  getNodeById(id: string | number): Node | null | undefined;
}

export interface MenuItem {
  content: string;
  disabled?: boolean;
  callback: () => void;
}

export interface Toast {
  severity: "success" | "info" | "warn" | "error";
  summary: string;
  detail?: string;
  life?: number;
}

export interface SidebarTab {
  id: string;
  icon: string;
  title: string;
  tooltip?: string;
  type: "custom";
  render(container: HTMLElement): void;
  destroy?(): void;
}

export interface ExtensionManager {
  toast: { add(message: Toast): void };
  setting: { get(id: string): unknown; set(id: string, value: unknown): unknown };
  dialog: { prompt(options: { title: string; message: string; defaultValue?: string }): Promise<string | null> };
  workflow?: { openWorkflows?: unknown[]; activeWorkflow?: { path?: string } | null };
  registerSidebarTab(tab: SidebarTab): void;
  renderMarkdownToHtml?(markdown: string): string;
}

export interface ComfyApp {
  rootGraph?: Graph;
  /** Deprecated name of `rootGraph`; its getter throws before the first graph. */
  graph?: Graph;
  extensionManager: ExtensionManager;
  registerExtension(extension: Extension): void;
}

export interface ComfyApi {
  clientId?: string;
  fetchApi(route: string, options?: RequestInit): Promise<Response>;
  addEventListener(type: string, listener: (event: CustomEvent<any>) => void): void;
}

export interface Setting {
  id: string;
  name: string;
  tooltip?: string;
  type: "boolean" | "hidden";
  defaultValue: unknown;
  category: string[];
  onChange?: (value: unknown) => void;
}

export interface Command {
  id: string;
  label: string;
  icon?: string;
  function: () => unknown;
}

export interface Extension {
  name: string;
  settings?: Setting[];
  commands?: Command[];
  menuCommands?: { path: string[]; commands: string[] }[];
  aboutPageBadges?: { label: string; url: string; icon: string }[];
  setup?(app: ComfyApp): unknown;
  nodeCreated?(node: Node): void;
  loadedGraphNode?(node: Node): void;
  beforeConfigureGraph?(graph: unknown): void;
  afterConfigureGraph?(): void;
  refreshComboInNodes?(): void;
  getNodeMenuItems?(node: Node): (MenuItem | null)[];
}
